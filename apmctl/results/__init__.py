"""Results of commands: dataclasses whose fields are the JSON document, with the forms that people read.

Fields may be added; none is taken away or changes its meaning without a note in the changelog (docs/scripting.md).
"""
