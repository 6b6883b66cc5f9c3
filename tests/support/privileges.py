"""Permissions of files that hold for root too."""

import ctypes
import os
from contextlib import contextmanager

# Linux: the version of the structures, and what lets root read every file and list every folder.
_VERSION_3 = 0x20080522
_OVERRIDE, _READ_SEARCH = 1, 2


@contextmanager
def without_override():
    """Let the permissions of files hold for this thread, whoever runs it."""
    if os.geteuid() != 0:
        yield
        return
    before = _capabilities()
    effective, *others = before
    _set_capabilities([effective & ~(1 << _OVERRIDE | 1 << _READ_SEARCH), *others])
    try:
        yield
    finally:
        _set_capabilities(before)


def _capabilities():
    """Six words: effective, permitted, inheritable; twice."""
    words = (ctypes.c_uint32 * 6)()
    _call("capget", words)
    return list(words)


def _set_capabilities(words):
    _call("capset", (ctypes.c_uint32 * 6)(*words))


def _call(name, words):
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, words):
        raise OSError(ctypes.get_errno(), name)
