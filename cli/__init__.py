"""The command line: what does a person type?

main.py             the process of a command: from its words to its exit status
app.py, options.py  what commands share: the app that they join, and their common options
usage.py            wrong usage: what is wrong with the words, and what was meant perhaps
closed_streams.py   standard streams that were closed before we started
commands/           the commands: each reads its words and calls the library
copying/            from sources and targets to transfers of files and objects; what sync compares
output/             what commands print, for people and for programs
measuring/          what `warehouse bench` runs
"""
