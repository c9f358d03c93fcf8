"""Who uses the command, for the audit trail."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

_NOBODY = 2**32 - 1
"""The login uid of what no login has started."""


def person() -> str:
    """Return the account that started the command, as the kernel knows it.

    That is who has logged in, even where it became another user since. The environment is not
    asked: anyone may write there what he likes.
    """
    try:
        uid = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):  # not Linux, or a kernel without audit
        uid = _NOBODY
    if uid == _NOBODY:
        uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # an account without a name, as in a container
        return f"uid {uid}"
