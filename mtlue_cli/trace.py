"""``mtlue.trace``: the commands of ``mtlue trace`` as functions. Importing this module loads no torch."""
