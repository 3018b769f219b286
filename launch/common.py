"""Shared by all launchers: flags, one clear line for bad input, a compilation cache."""

import contextlib
import errno
import hashlib
import inspect
import io
import json
import logging as std_logging
import os
import re
import signal
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import jax
import numpy as np
import tqdm
from absl import app, flags, logging
from jax.experimental import multihost_utils

from pulse3d import __version__, settings
from pulse3d.errors import InputError, first_line

LINE_S = 10.0  # between lines that say how far a program is
NO_DEVICE = (
    "JAX_PLATFORMS={}: this machine has no such device, or JAX no plug-in for it; unset it to compute on what"
    " there is, or install '.[cuda]' or '.[tpu]' ({})"
)
ARGUMENTS = {"fps", "stream", "weights"}  # of the library, which messages name and which are flags as well
HELP = ("--help", "-h", "-help", "--helpshort")


def run(main: Callable[..., None]) -> None:
    """Parses the flags and runs `main`; bad input gets one line and exit code 2.

    What is no flag goes to `main` as a list, if it takes one. `GROUPS` of its module has the flags by title.
    """
    takes_inputs = bool(inspect.signature(main).parameters)

    def guarded(argv: list[str]) -> None:
        try:
            if argv[1:] and not takes_inputs:
                raise InputError(
                    f"{argv[1]}: unexpected; every option is a flag, like --name=value (see --help)"
                )
            main(*([argv[1:]] if takes_inputs else []))
        except InputError as error:
            print(f"error: {in_flags(str(error))}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            what = error.filename or {errno.ENOSPC: "disk", errno.EDQUOT: "disk"}.get(error.errno or 0)
            if jax.distributed.is_initialized() or not what:
                raise
            print(f"error: {InputError(f'{what}: {error.strerror}')}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            if jax.distributed.is_initialized():
                _leave_the_others(error)
            if not os.environ.get("JAX_PLATFORMS") or not is_without_device():
                raise
            said = NO_DEVICE.format(os.environ["JAX_PLATFORMS"], first_line(error))
            print(f"error: {InputError(said)}", file=sys.stderr)
            sys.exit(2)

    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold bytes that are not text
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.set_verbosity(logging.WARNING)
    quieten_jax()
    cache_compilations()
    app.run(guarded, flags_parser=partial(_parse_flags, sys.modules[main.__module__]))


def in_flags(message: str) -> str:
    """A message of the library, which names arguments (fps=30), as one that names flags (--fps=30)."""
    return re.sub(
        r"(?<![\w./-])(\w+)=",
        lambda m: f"--{m[0]}" if m[1] in ARGUMENTS & set(flags.FLAGS) else m[0],
        message,
    )


class Stop(threading.Event):
    """An event that a signal sets; keeps the signal's number."""

    number = 0


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """An event that Ctrl-C (or SIGTERM, or a terminal that closes) sets; the next one ends the program."""
    stop = Stop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _) -> None:
        stop.number = number
        stop.set()
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


@contextlib.contextmanager
def progress(
    what: str, total: int | None = None, unit: str = "", *, initial: int = 0, hidden: bool = False
) -> Iterator[tqdm.tqdm]:
    """Says how a wait is getting on: a bar on a terminal, elsewhere a line on stderr every `LINE_S`.

    Yields the bar, whose `update` counts units, as in "window". total: 0 or None if it is not known. A wait
    for compilation counts nothing, but goes on saying how long it takes.
    """
    terminal = sys.stderr.isatty()
    form = None if unit else "{desc}: {elapsed}"
    with contextlib.ExitStack() as stack:
        file = None if terminal else stack.enter_context(open(os.devnull, "w"))
        bar = stack.enter_context(
            tqdm.tqdm(
                total=total or None,
                initial=initial,
                unit=unit,
                desc=what,
                file=file,
                bar_format=form,
                disable=hidden,
            )
        )
        if not (terminal or hidden):
            stack.enter_context(_lines(bar))
        yield bar


@contextlib.contextmanager
def _lines(bar: tqdm.tqdm) -> Iterator[None]:
    """Prints how far a bar is, a line every `LINE_S` seconds."""
    started, done = time.monotonic(), threading.Event()

    def say() -> None:
        while not done.wait(LINE_S):
            of = f" of {bar.total}" if bar.total else ""
            count = f" {bar.unit} {bar.n}{of}," if bar.unit else ""
            also = f", {bar.postfix}" if bar.postfix else ""
            taken_s = time.monotonic() - started
            print(f"{bar.desc}:{count} {taken_s:.0f} s{also}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, so that later starts are quick.

    JAX_COMPILATION_CACHE_DIR names another. Where nothing can be written, one line says so.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        if not folder:
            folder = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pulse3d" / "jax")
            jax.config.update("jax_compilation_cache_dir", folder)
        if "://" not in folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home is known
        jax.config.update("jax_compilation_cache_dir", None)
        why = getattr(error, "strerror", None) or "no home folder"
        said = f"{folder or 'cache'}: compiled programs cannot be kept ({why}), so every start compiles anew"
        print(f"warning: {InputError(said)}", file=sys.stderr)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def quieten_jax() -> None:
    """Leaves out what JAX prints of things that do no harm, or prints it in one line."""
    # a cache is a help only: what it cannot read or write is compiled anew
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    std_logging.getLogger("jax._src.xla_bridge").addFilter(_without_traceback)


def _without_traceback(record: std_logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True


def is_without_device() -> bool:
    """Whether JAX finds no device of the kind that it was asked for; its exceptions are of all kinds."""
    try:
        return not jax.devices()
    except Exception:
        return True


def join_processes(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None
) -> None:
    """Joins this process to others that compute together; call it before any computation.

    JAX takes what is not given from the variables of Slurm, Kubernetes and TPU.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    if not distributed:
        if named := [name for name, value in given.items() if value is not None]:
            raise InputError(f"--{named[0]}={given[named[0]]}: needs --distributed")
        return
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise InputError(f"--coordinator={coordinator}: expected HOST:PORT, as in 10.0.0.1:1234")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process={process}: expected 0 <= I < N, with --processes={processes}")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"--distributed: {str(error).splitlines()[0].rstrip('.')}; without Slurm, Kubernetes or TPU give"
            " --coordinator=HOST:PORT --processes=N and --process=I, 0 <= I < N"
        ) from None


def require_agreement(values: Any, names: str) -> None:
    """Raises InputError in every process if their values (JSON) differ."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()
    found = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    if (found != found[:1]).any():
        raise InputError(f"{names}: differ between the processes; start all of them with the same command")


def require_everywhere(holds: bool, message: str) -> None:
    """Raises InputError in every process if `holds` is false in one of them."""
    if not np.all(multihost_utils.process_allgather(np.uint8(holds))):
        raise InputError(message)


def parse_shard(shard: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """(index, number) of this process; from Slurm's variables if no shard is given."""
    if shard is None:
        shard = f"{environment.get('SLURM_PROCID', 0)}/{environment.get('SLURM_NTASKS', 1)}"
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not int(match[1]) < int(match[2]):
        raise InputError(f"--shard={shard}: expected i/n with 0 <= i < n, as in 0/4")
    return int(match[1]), int(match[2])


def _leave_the_others(error: Exception) -> NoReturn:
    """Ends this process at once: an ordinary exit would wait for processes that have ended."""
    # the runtime reports failures between processes as a status, in exceptions of several types
    if re.match(r"(ABORTED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): ", str(error)):
        print(
            f"error: lost another process ({str(error).splitlines()[0]}); start all of them again,"
            " the run goes on from its last checkpoint",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _parse_flags(launcher: ModuleType, argv: list[str]) -> list[str]:
    """What is no flag, after the program's name; ends the program where only a text is asked for."""
    texts = {
        **dict.fromkeys(HELP, lambda: help_text(launcher)),
        "--version": lambda: f"pulse3d {__version__}",
        "--list-settings": settings.list_settings,
    }
    if asked := [argument for argument in argv[1:] if argument in texts]:
        print_text(texts[asked[0]]())
        sys.exit(0)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"error: {error} (see --help)", file=sys.stderr)
        sys.exit(2)
    except SystemExit:  # from --helpfull
        sys.exit(0)


def print_text(text: str) -> None:
    """Prints a text that may be cut short, as by `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def help_text(launcher: ModuleType) -> str:
    """The launcher's docstring, and its flags in groups."""
    lines = [(launcher.__doc__ or "").strip()]
    for title, holders in launcher.GROUPS.items():
        lines.append(f"\n{title}:")
        for flag in (flags.FLAGS[holder.name] for holder in holders):
            name = f"  {_usage(flag)}  "
            shown = flag.default is not None and flag.default is not False and flag.default != []
            given = (flag.default_as_str or "").strip("'") if shown else ""
            default = f" Default: {given}." if given else ""
            said = re.sub(r"^<.*>: |;\s*repeat this option.*", "", flag.help)  # what absl adds
            text = textwrap.fill(f"{said}{default}", 100, initial_indent=26 * " ", subsequent_indent=26 * " ")
            lines += [name + text[len(name) :]] if len(name) <= 26 else [name, text]
    return "\n".join(lines)


def _usage(flag: flags.Flag) -> str:
    """How a flag is given."""
    if flag.boolean:
        return f"--[no]{flag.name}"
    values = getattr(flag.parser, "enum_values", None)
    kinds = {"int": "N", "float": "X", "comma separated list of strings": "A,B"}
    return f"--{flag.name}={'|'.join(values) if values else kinds.get(flag.flag_type(), 'TEXT')}"
