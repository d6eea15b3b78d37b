"""What can go wrong with the installation on this machine, explained to people."""

from collections.abc import Callable
from typing import TypeVar

from allocator.errors import SamplitError
from server.cli.errors import CommandError
from server.runtime.certificates import CertificateError
from server.runtime.supervision.children import ChildFailedError
from server.runtime.supervision.ports import PortInUseError
from storage.encryption import SecretsUnusableError
from storage.engines.errors import EmbeddedError

Result = TypeVar("Result")
_PUT_RIGHT = (
    SamplitError,
    EmbeddedError,
    SecretsUnusableError,
    CertificateError,
    PortInUseError,
    ChildFailedError,
    OSError,
)


def run_explained(action: Callable[[], Result]) -> Result:
    """Do something, and return what it returns. What an operator can put right becomes a CommandError."""
    try:
        return action()
    except _PUT_RIGHT as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError("interrupted") from None
