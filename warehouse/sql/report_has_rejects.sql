-- Whether dbt has made its view of rejected records yet. Bound: 1. its name in capitals.
select count(*)
from information_schema.tables
where
    table_schema = 'STAGING'
    and table_name = ?
