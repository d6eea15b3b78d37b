"""Every test of the data plane runs on both transports."""

import pytest

from server.settings import Settings


@pytest.fixture(params=["samplit", "grpcio"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """The settings of the session's stores, for one of the transports."""
    return settings.model_copy(update={"transport": request.param})
