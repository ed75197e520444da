"""Images on demand: requests, the batches they are made in, and where models are kept.

`state`, `apply` and `due` belong to the machine and are as pure as it is; `placing` asks the planner, `effects`
carries out, `ledger` is a view over the log, `intake` and `service` speak with devices and operators.
"""
