-- Tell a pipe of the files whose path under its folder begins so; one row a file it took.
alter pipe $pipe_name refresh prefix = $prefix -- noqa: PRS
