-- Folder and files are filled in by warehouse.stream_loading, quoted.
copy into ops.dead_letters
from $stage_folder -- noqa: PRS
files = $files
file_format = (format_name = 'raw.staged_parquet')
match_by_column_name = case_insensitive
force = true
