-- One row per load of a file into a table since then, by a pipe or by COPY.
select -- noqa: PRS
    stage_location,
    file_name,
    status,
    row_count,
    first_error_message
from table(information_schema.copy_history(table_name => $table_name, start_time => cast($since as timestamp_ltz)))
order by last_load_time
