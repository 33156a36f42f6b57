"""How much memory a run has taken."""

import pathlib

_STATUS = pathlib.Path("/proc/self/status")


def peak_gb() -> float:
    """Tells the most memory taken so far.

    Returns:
      That of the fullest device of this process where it counts its own, else that of the process;
      0 where neither says. GB of 10^9 bytes.
    """
    import jax  # the devices are running by now

    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stat["peak_bytes_in_use"] for stat in stats if "peak_bytes_in_use" in stat]
    if peaks:
        return max(peaks) / 1e9
    try:
        lines = _STATUS.read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(found[0]) * 1024 / 1e9 if found else 0.0
