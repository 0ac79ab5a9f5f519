-- The gate: order lines that the business marts leave out until somebody releases them.

create table if not exists quality.held_order_lines (
    order_line_key varchar(32) not null comment 'The line, as in MARTS.FACT_ORDERS',
    incident_id varchar(32) not null comment 'Why it is held',
    quantity number(18, 4) not null comment 'What the line says; delivered again with another quantity it is not held',
    unit_price number(18, 4) not null comment 'What the line says; delivered again with another price it is not held',
    currency varchar(3) not null comment 'What the line says; delivered again in another currency it is not held',
    source_system varchar not null comment 'Name of the source mapping',
    order_id varchar not null comment 'Order the line is of',
    source_file varchar not null comment 'File it came in when it was held',
    run_id varchar not null comment 'Run that held it',
    held_at timestamp_ntz not null comment 'UTC',
    released_at timestamp_ntz comment 'When somebody released it, UTC; NULL while it is held',
    released_by varchar comment 'Who did',
    applied_at timestamp_ntz comment 'When the marts were as this row says, UTC; NULL: the next transform sees to it',
    constraint held_order_lines_pk primary key (order_line_key, incident_id, quantity, unit_price, currency)
)
comment = 'Grain: one row per order line as it was delivered, and incident it is held for';
