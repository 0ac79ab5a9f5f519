-- Whether dbt has made its view of rejected order lines yet.
select count(*)
from information_schema.tables
where
    table_schema = 'STAGING'
    and table_name = 'ORDER_LINE_REJECTS'
