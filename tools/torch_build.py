"""Install PyTorch's CPU build where that saves gigabytes: on Linux without an NVIDIA GPU. `make course` runs it first.

pip's own build for Linux brings all that an NVIDIA GPU needs. TORCH=cpu or TORCH=cuda decides by hand.
"""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch's own
PATIENCE = ("--retries", "1", "--timeout", "10")  # an index that does not answer is given up within seconds
CPU_BUILD = (*PATIENCE, "--no-deps", "-c", str(ROOT / "constraints.txt"), "--index-url", INDEX)  # options of pip


def choose(wanted: str) -> tuple[bool, str]:
    """Choose a build of PyTorch: (whether the CPU build, a sentence that says which and why).

    wanted : "cpu", "cuda", or "" for what suits this machine. Raises ValueError for anything else.
    """
    if wanted not in ("", "cpu", "cuda"):
        raise ValueError(f"TORCH is {wanted!r}. Set it to cpu or cuda, or leave it out.")
    if not sys.platform.startswith("linux"):
        return False, "PyTorch: pip's own build, the only one for this system."
    if wanted:
        return wanted == "cpu", f"PyTorch: the build for {'CPUs' if wanted == 'cpu' else 'NVIDIA GPUs'}, as TORCH says."
    if gpu_is_seen():
        return False, "PyTorch: the build for NVIDIA GPUs, since one is seen here (TORCH=cpu for the other)."
    return True, "PyTorch: the CPU build, since no NVIDIA GPU is seen here (TORCH=cuda for the other)."


def gpu_is_seen() -> bool:
    """Tell whether the driver of an NVIDIA GPU is at work."""
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.stdout.startswith("GPU ")


def main() -> int:
    """Install the CPU build, or leave PyTorch to the installation of the course. Return the process's exit code."""
    wanted = os.environ.get("TORCH", "")
    try:
        here = metadata.version("torch")
        if wanted and (wanted == "cpu") != here.endswith("+cpu"):
            print(f"PyTorch {here} is here already and stays. For another: make clean, and this again.")
        return 0
    except metadata.PackageNotFoundError:
        pass
    if "PIP_NO_INDEX" in os.environ:  # a room without a network: the wheelhouse has one or the other
        return 0
    try:
        cpu, sentence = choose(wanted)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(sentence, flush=True)
    if cpu and subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *CPU_BUILD, "torch"]).returncode:
        print("That did not work, see above." + ("" if wanted else " pip's own build is taken."), flush=True)
        return int(bool(wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
