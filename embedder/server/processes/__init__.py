"""The processes of a service with several front-ends or devices: a supervisor, a keeper, engines, front-ends."""
