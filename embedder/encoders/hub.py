"""Fetches a model's folder from the Hugging Face hub, or says what to do without it."""

from __future__ import annotations

from pathlib import Path

from embedder.errors import EncoderLoadError

# No pickles, no code, no other runtimes' copies of the weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/model.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*"]


def fetch_folder(repository: str, revision: str | None) -> Path:
    """Fetch a repository's model files into the hub's local cache, or find them there.

    Args:
        repository: such as `sentence-transformers/all-MiniLM-L6-v2`.
        revision: a commit, tag or branch; None is the default branch.
    Returns:
        The folder.
    Raises:
        EncoderLoadError: there is no such repository or revision, or the hub can't be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    named = f"hf:{repository}" + (f"@{revision}" if revision else "")
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except GatedRepoError as error:
        raise EncoderLoadError(
            f"{named} is gated: accept its terms on the hub and log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise EncoderLoadError(f"{named}: the repository has no revision {revision!r}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EncoderLoadError(f"{named}: the hub has no such repository, or it is private") from error
    except Exception as error:  # the hub's client lets through whatever its HTTP library and the system raise
        raise EncoderLoadError(
            f"{named} can't be fetched, since the model hub can't be reached ({type(error).__name__}: {error}); "
            f"on a machine that reaches it run `hf download {repository} --local-dir <folder>`, copy the folder here, "
            "and give its path"
        ) from error
