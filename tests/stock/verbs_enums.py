# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""The constants of verbs.h by their names, whichever pyverbs: one module has them all, or,
in rdma-core 65, enumerations of another one do."""
import enum


def _collect(module):
    found = {name: value for name, value in vars(module).items() if name.startswith("IBV_")}
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, enum.Enum):
            found.update((name, int(member)) for name, member in value.__members__.items()
                         if name.startswith("IBV_"))
    return found


try:
    import pyverbs.enums as _module
except ImportError:
    import pyverbs.libibverbs_enums as _module
globals().update(_collect(_module))
