"""`python -m pulse3d`: the command `pulse3d`, whose programs are in `launch`."""

try:
    from pulse3d.launch.command import main
except ModuleNotFoundError as error:  # in a source tree that is not installed
    if error.name != "pulse3d.launch":
        raise
    from launch.command import main

if __name__ == "__main__":
    main()
