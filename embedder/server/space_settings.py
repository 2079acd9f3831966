"""Which spaces a service has: those of the data folder's registry, or the one that its settings name."""

from __future__ import annotations

from embedder.config import ServeSettings
from embedder.errors import ConfigurationError
from embedder.spaces.document import SpacesDocument, first_document
from embedder.spaces.registry import SpaceRegistry


def spaces_of(settings: ServeSettings) -> SpacesDocument:
    """Return which spaces a service has.

    Raises:
        SpacesInvalid: the registry is damaged.
        ConfigurationError: the settings name a space or a model that the registry does not know.
    """
    registry = SpaceRegistry(settings.data_dir)
    document = registry.read()
    if document is None:
        return first_document(settings.space, model=settings.model, precision=settings.precision)
    known = {"space": [row.name for row in document.live], "model": [row.model for row in document.live]}
    for name, allowed in known.items():
        given = getattr(settings, name)
        if name in settings.model_fields_set and given not in allowed:
            raise ConfigurationError(
                f"{name}={given!r} is set, and {registry.path} says which spaces there are: {name} {', '.join(allowed)}. "
                "Add one with 'embedder-spaces create', or leave the setting out"
            )
    return document


def one_space_of(settings: ServeSettings) -> ServeSettings:
    """Return the settings of a service of several processes, which serves one space: that of the registry, if there is one.

    Raises:
        SpacesInvalid: the registry is damaged.
        ConfigurationError: the registry has several spaces.
    """
    document = spaces_of(settings)
    if len(document.live) > 1 or len(document.aliases) > 1:
        names = ", ".join(row.name for row in document.live)
        raise ConfigurationError(
            f"frontends={settings.frontends} and devices={settings.devices!r} serve one space under its own name so far, and the "
            f"registry in {settings.data_dir} has {names}: use one process, or retire the others first"
        )
    [row] = document.live
    if document.default_alias != row.name.split("@")[0]:
        raise ConfigurationError(
            f"frontends={settings.frontends} and devices={settings.devices!r} serve {row.name} as {row.name.split('@')[0]!r}, and the "
            f"registry in {settings.data_dir} calls it {document.default_alias!r}: use one process"
        )
    return settings.model_copy(update={"space": row.name, "model": row.model, "precision": row.precision})
