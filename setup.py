from pathlib import Path

from setuptools import find_packages, setup

VERSION = next(
    line.split('"')[1]
    for line in Path(__file__).with_name("pulse3d").joinpath("__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="pulse3d-rppg",  # the index has another project called pulse3d
    version=VERSION,
    description="Pulse-rate maps of ordinary video, by a 3-D network trained on synthetic video alone.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=[*find_packages(include=["pulse3d*"]), "pulse3d.launch", "pulse3d.launch.benchmarks"],
    package_dir={"pulse3d.launch": "launch", "pulse3d.launch.benchmarks": "launch/benchmarks"},
    package_data={
        "pulse3d": ["weights/*.npz", "py.typed"],
        "pulse3d.serving": ["page/*"],
        "pulse3d.showing": ["page/*"],
    },
    entry_points={"console_scripts": ["pulse3d = pulse3d.launch.command:main"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2",
        "flax>=0.12.7,<1",
        "imageio[pyav]>=2.37",
        "jax>=0.10.2",
        "jaxtyping>=0.3.6",
        "matplotlib>=3.10.8",
        "numpy>=2",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.30,<1",
        "pillow>=10.1",
        "scipy>=1.14",
        "tensorboardX>=2.6.2.2",
        "tqdm>=4.66",
    ],
    extras_require={
        "bench": ["keras>=3", "tensorflow-cpu>=2.18"],
        "cuda": ["jax[cuda13]"],
        "datasets": ["h5py>=3.12.1"],
        "export": ["flatbuffers>=24.3.25"],
        "face": ["scikit-image>=0.24"],
        "keras": ["h5py>=3.12.1"],
        "mutants": ["cosmic-ray>=8.7"],
        "notebooks": ["jupyterlab>=4"],
        "test": [
            "beartype>=0.21",
            "chex>=0.1.90",
            "flatbuffers>=24.3.25",
            "h5py>=3.12.1",
            "hypothesis>=6.100",
            "ipykernel>=6.29",
            "mypy>=1.15",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "pytest>=8.3",
            "pytest-xdist>=3.6.1",
            "ruff>=0.11",
            "scikit-image>=0.24",
            "selenium>=4.30",
            "setuptools>=70.1",
            "xarray>=2025.1",
        ],
        "peers": ["open-rppg==0.1.1", "opencv-python-headless<5"],
        "tpu": ["jax[tpu]"],
        "xarray": ["xarray>=2025.1"],
    },
)
