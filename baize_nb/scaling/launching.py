"""Training in several processes, on one machine or several: a file of accelerate's settings, and never other code.

Knows: the files in launch/, and the command that uses one. Does not know: training; that is `baize_nb.finetune`.

    ddp.yaml         two processes on one machine, on GPUs or on processors   run here, on two processors
    ddp_nodes.yaml   the same on two machines                                 run here as two launchers on one machine
    fsdp.yaml        two GPUs that share the model's weights                  run on two processors, by a test's help
    fsdp_nodes.yaml  the same on two machines                                 never run here

Built in notebook 08.
"""

import sys
from pathlib import Path

LAUNCH = Path(__file__).resolve().parent / "launch"


def configs():
    """{name: path} of the settings that come with the course."""
    return {path.stem: path for path in sorted(LAUNCH.glob("*.yaml"))}


def command(config, *arguments, options=()):
    """The command, as a list, that trains by the settings `config` ("ddp", or a path of your own).

    arguments : of `python -m baize_nb.finetune`. options : of `accelerate launch`, stronger than the file's settings.
    """
    path = configs().get(str(config), config)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    return [*launcher, *options, "-m", "baize_nb.finetune", *map(str, arguments)]
