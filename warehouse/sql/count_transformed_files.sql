select count(*) as file_count
from ops.transformed_files
