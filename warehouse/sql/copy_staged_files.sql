-- Names that can't be bound (table, folder, files) are filled in by warehouse.loading, quoted.
copy into identifier($target_table)
from $stage_folder -- noqa: PRS
files = $files
file_format = (format_name = 'raw.staged_parquet')
match_by_column_name = case_insensitive
