"""Run the command from a checkout: ``python cli.py analyze …`` is ``costmodel analyze …``."""

from costmodel.cli import main

if __name__ == "__main__":
    main()
