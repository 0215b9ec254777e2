"""The command line: `warehouse COMMAND`.

`commands/` parse words and call the library, `copying/` finds and moves files, `output/` prints,
`measuring/` is `warehouse bench`.
"""
