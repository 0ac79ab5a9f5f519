-- QUALITY: what the checks after each transform found.

create table if not exists quality.anomalies (
    anomaly_id varchar(32) not null comment 'Hash of order line and kind: the same finding has one id',
    run_id varchar not null comment 'Run that found it',
    kind varchar not null comment 'What is wrong, e.g. price_high',
    score float not null comment 'Grows with strangeness',
    severity varchar not null comment 'note, warning or critical',
    entity varchar not null comment 'What it is about, e.g. order_line 536365/3',
    observed varchar comment 'Value found',
    expected varchar comment 'Value or range expected',
    direction varchar comment 'high, low or none',
    money_at_risk number(18, 4) comment 'In the order''s currency',
    reason varchar not null comment 'A sentence a person can act on',
    detected_at timestamp_ntz not null comment 'UTC',
    source_system varchar comment 'Source of the order line',
    order_line_key varchar(32) comment 'Order line, as in MARTS.FACT_ORDERS',
    order_id varchar comment 'Order',
    line_number number(38, 0) comment 'Line within the order',
    product_id varchar comment 'Product',
    customer_id varchar comment 'Customer; NULL for a guest',
    currency varchar(3) comment 'Currency of money_at_risk',
    ordered_at timestamp_ntz comment 'When the order was placed, UTC',
    constraint anomalies_pk primary key (anomaly_id)
)
comment = 'Grain: one row per order line and kind of anomaly';

create table if not exists quality.reconciliations (
    run_id varchar not null comment 'Run that checked',
    source_system varchar not null comment 'Source mapping',
    check_name varchar not null comment 'What was compared',
    measure varchar not null comment 'rows, or an amount with its currency',
    expected_value number(38, 8) comment 'Value upstream',
    actual_value number(38, 8) comment 'Value downstream',
    is_passed boolean not null comment 'Equal to the last digit',
    detail varchar comment 'Where to look when it failed',
    checked_at timestamp_ntz not null comment 'UTC',
    constraint reconciliations_pk primary key (run_id, source_system, check_name, measure)
)
comment = 'Grain: one row per run, source, check and measure';

create table if not exists quality.test_results (
    run_id varchar not null comment 'Run that tested',
    test_name varchar not null comment 'dbt test',
    model_name varchar comment 'Model it tests',
    status varchar not null comment 'pass, warn, fail, error or skipped',
    failures number(38, 0) comment 'Rows that break the claim',
    message varchar comment 'What dbt said',
    execution_seconds float comment 'Time it took',
    tested_at timestamp_ntz not null comment 'UTC',
    constraint test_results_pk primary key (run_id, test_name)
)
comment = 'Grain: one row per run and dbt test';

create table if not exists quality.scored_files (
    source_system varchar not null comment 'Name of the source mapping',
    content_hash varchar not null comment 'File, as in OPS.FILES',
    run_id varchar not null comment 'Run whose detectors scored its order lines',
    scored_at timestamp_ntz not null comment 'UTC',
    constraint scored_files_pk primary key (source_system, content_hash)
)
comment = 'Grain: one row per file whose order lines the detectors have seen';
