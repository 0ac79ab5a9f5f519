-- Whether the warehouse has a gate. No bound values.
select count(*) as tables
from information_schema.tables
where
    table_schema = 'QUALITY'
    and table_name = 'HELD_ORDER_LINES'
