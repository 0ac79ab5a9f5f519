-- executionState, pendingFileCount and more, as JSON.
select system$pipe_status($pipe_name) as pipe_status -- noqa: PRS
