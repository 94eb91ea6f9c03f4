"""tport.yaml, `tport start`'s flags and the defaults, as one frozen `Config`. Pure but for reading one file.

    text ─ document.py ─ nodes with positions ─ read.py (shape: file.py) ─ resolve.py ─ model.Config
                                                                     flags.py ───────────┘

Every fault is found in one go and told as `file:line:column: setting: what is wrong`.
"""
