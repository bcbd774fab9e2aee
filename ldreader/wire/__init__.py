"""Small read-only clients for the common case of one server, on the standard library alone.

They stand beside the packages redis, python-consul and boto3, whose import costs ten to twenty times a whole
evaluation, behind the same seams, and pass the same tests.
"""
