"""The house rules that a program can check."""

import ast
import graphlib
import re
import subprocess
import sys

import pytest
from helpers.launching import ROOT

# A room imports only from floors below its own; modules outside the rooms are rooms by themselves.
FLOORS = [
    {"errors"},
    {"config", "files"},
    {"settings", "archive"},
    {"video", "network"},
    {"synthetic", "mapping"},
    {"training", "reading"},
    {"stream"},
    {"result"},
    {"pipeline"},
    {"evaluation"},
    {"showing"},
    {"serving"},
]
PACKAGE = ROOT / "pulse3d"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path
    not in (
        PACKAGE / "__init__.py",
        PACKAGE / "__main__.py",
    )  # of the package itself: what it offers, the command
}
OWNERS = {
    "orbax": {"training.checkpoint"},
    "imageio": {"video"},
    "av": {"video"},
    "rppg": {"evaluation.peers"},
    "skimage": {"evaluation.faces"},
    "matplotlib": {"showing"},
    "http": {"serving"},
    "h5py": {"network.keras_import", "evaluation.datasets"},
}
# A result draws itself, with what is imported when it does.
DRAWS = {("result", f"showing.{module}") for module in ("figures", "labelled", "overlay", "report")}
# What may be left out of a call without being named: optional inputs (None), and these.
UNNAMED_OPTIONS = {("pipeline", "map_video"), ("stream", "map_stream")}


def imports(path):
    """(module, name) pairs that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def own_imports(module):
    """The modules of the package that a module of it imports; rooms that name what they offer count whole."""
    for source, name in imports(MODULES[module]):
        whole = f"{source}.{name}".removeprefix("pulse3d.")
        if source.split(".")[0] == "pulse3d" and name != "__version__":
            found = whole if whole in MODULES or f"{whole}.__init__" in MODULES else source[len("pulse3d.") :]
            if (module, found) not in DRAWS:
                yield found


def room(module):
    return module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    floor = next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)
    below = set().union(*FLOORS[:floor])
    for source in own_imports(module):
        assert room(source) in below | {room(module)}, f"{module} imports {source}"
    assert not any(source.startswith("launch") for source, _ in imports(MODULES[module]))


def test_no_room_has_a_circle():
    arrows = {module: {m for m in own_imports(module) if m in MODULES} for module in MODULES}
    list(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError


def test_one_owner_per_side_effect():
    launchers = {str(path): path for path in (ROOT / "launch").rglob("*.py")}
    for module, path in [*MODULES.items(), *launchers.items()]:
        for source, _ in imports(path):
            if module == "result" and source in (
                "matplotlib.axes",
                "matplotlib.figure",
            ):  # for the types alone
                continue
            owners = OWNERS.get(source.split(".")[0])
            assert owners is None or {module, room(module)} & owners, f"{module} imports {source}"


@pytest.mark.parametrize("module", MODULES)
def test_keys_come_first_and_options_are_named(module):
    for function in ast.parse(MODULES[module].read_text()).body:
        if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
            continue
        arguments = function.args
        names = [argument.arg for argument in arguments.args]
        assert not {"key", "draw", "rng"} & set(names[1:]), f"{function.name}: the key comes first"
        if (module, function.name) not in UNNAMED_OPTIONS:
            values = [ast.unparse(default) for default in arguments.defaults]
            assert set(values) <= {"None"}, f"{function.name}: {values} can be given without their names"


def test_no_pickle():
    for path in MODULES.values():
        text = path.read_text()
        assert not any(source in ("pickle", "dill", "cloudpickle") for source, _ in imports(path))
        assert "allow_pickle=True" not in text
        for call in re.findall(r"np\.load\([^\n]*", text):
            assert "allow_pickle=False" in call


def test_importing_the_package_imports_nothing_else():
    program = (
        "import sys, pulse3d; assert not {'jax', 'numpy', 'av'} & set(sys.modules);"
        "assert set(pulse3d.__all__) < set(dir(pulse3d));"
        "from pulse3d import *; from pulse3d import errors, network, stream;"
        "assert map_stream is stream.map_stream and InputError is errors.InputError;"
        "assert load_weights is network.weights_file.load_weights"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_licence_of_every_dependency_is_listed():
    setup = (ROOT / "setup.py").read_text()
    block = setup[setup.index("install_requires=[") : setup.index("extras_require")]
    needed = {name.lower() for name in re.findall(r'^ +"([A-Za-z0-9_.-]+)', block, re.MULTILINE)}
    rows = [line.split("|") for line in (ROOT / ".github" / "LICENSES.md").read_text().splitlines()]
    listed = {row[1].strip(): row[3].strip() for row in rows if len(row) == 5}
    assert len(needed) >= 12
    assert needed <= {name.replace("_", "-") for name in listed}
    assert all(listed.values())
    assert "not stated" not in listed.values()
