select
    file_name,
    checksum
from ops.schema_migrations
