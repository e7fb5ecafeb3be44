"""python -m rankclip"""

from rankclip.cli.app import main

if __name__ == "__main__":
    main()
