"""Custom components: a class of Seldon's Python wrapper, in a process of its own.

`process` starts that process and calls it; `worker` is the process, which calls the class by
`component`. `wire` is what they send each other. The class may raise, hang, use too much memory or
end its process: the server answers with an error, and starts the process again.
"""
