import logging

# where it can write no cache, matplotlib would say so in lines of its own, before anything else runs
logging.getLogger("matplotlib").setLevel(logging.ERROR)
