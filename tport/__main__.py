"""`python -m tport`: the program, where its script is not on the PATH."""

from __future__ import annotations

from tport.program import main

if __name__ == "__main__":
    main()
