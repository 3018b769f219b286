"""What every launcher does: flags in, one clear line for bad input, a compilation cache."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from absl import app, logging

from pulse3d import config
from pulse3d.errors import InputError


def run(main: Callable[[], None]) -> None:
    """Parses the flags and runs `main`; bad input gets one line and exit code 2."""

    def guarded(argv: list[str]) -> None:
        try:
            if len(argv) > 1:
                raise InputError(
                    f"{argv[1]}: unexpected; every option is a flag, like --name=value (see --help)"
                )
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    logging.set_verbosity(logging.WARNING)
    cache_compilations()
    app.run(guarded, flags_parser=_parse_flags)


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, so that later starts are quick."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "pulse3d" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def use_settings(trained: config.Config, assignments: list[str]) -> config.Config:
    """The config with settings of map and readout replaced; the rest belongs to the weights."""
    for assignment in assignments:
        if not assignment.startswith(("map.", "readout.")):
            raise InputError(f"--set {assignment}: here only the settings map.* and readout.* can be set")
    return config.override(trained, assignments)


def parse_shard(shard: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """(index, number) of this process; from Slurm's variables where no shard is given."""
    if shard is None:
        shard = f"{environment.get('SLURM_PROCID', 0)}/{environment.get('SLURM_NTASKS', 1)}"
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not int(match[1]) < int(match[2]):
        raise InputError(f"--shard={shard}: expected i/n with 0 <= i < n, as in 0/4")
    return int(match[1]), int(match[2])


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except SystemExit as exit_:
        sys.exit(2 if exit_.code else 0)
