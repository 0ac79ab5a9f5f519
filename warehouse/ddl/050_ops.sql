-- OPS: the ledger. It alone decides what has been loaded.

create table if not exists ops.schema_migrations (
    file_name varchar not null comment 'File in warehouse/ddl',
    checksum varchar not null comment 'SHA-256 of its text',
    applied_at timestamp_ntz not null comment 'When it was applied, UTC',
    constraint schema_migrations_pk primary key (file_name, checksum)
)
comment = 'Grain: one row per version of a DDL file that was applied';

create table if not exists ops.runs (
    run_id varchar not null comment 'Decided once, passed to every step',
    flow_name varchar not null comment 'Flow that began the run',
    source_system varchar comment 'Source mapping the run was for',
    landing_url varchar comment 'Where it looked for files',
    engine varchar comment 'inline, prefect or airflow',
    state varchar not null comment 'running, completed or failed',
    started_at timestamp_ntz not null comment 'UTC; also the _ingested_at of what the run lands',
    finished_at timestamp_ntz comment 'UTC',
    summary varchar comment 'JSON: counts and findings of the run',
    constraint runs_pk primary key (run_id)
)
comment = 'Grain: one row per run';

create table if not exists ops.files (
    source_system varchar not null comment 'Name of the source mapping',
    entity varchar not null comment 'RAW table the file is for, in lower case',
    file_key varchar not null comment 'Path relative to the landing folder',
    etag varchar not null comment 'Version of the object in the landing folder or bucket',
    landing_url varchar not null comment 'Landing folder or bucket',
    size_bytes number(38, 0) not null comment 'Size as landed',
    modified_at timestamp_ntz comment 'Last change as landed, UTC',
    state varchar not null comment 'planned, staged, by a pipe also loading; at last loaded, empty, refused or duplicate',
    reason varchar comment 'Why it was refused, or what it duplicates',
    content_hash varchar comment 'SHA-256 of its bytes',
    staged_key varchar comment 'Staged file in the lake',
    quarantine_key varchar comment 'Quarantine file in the lake, when rows or the file were refused',
    rows_in number(38, 0) comment 'Records found',
    rows_staged number(38, 0) comment 'Records staged for RAW',
    rows_quarantined number(38, 0) comment 'Records refused',
    rows_loaded number(38, 0) comment 'Rows that the warehouse said it loaded',
    control_quantity number(38, 4) comment 'Order lines: sum of quantity over staged rows that parse',
    control_amount number(38, 8) comment 'Order lines: sum of quantity times unit price over staged rows that parse',
    control_unparsed_rows number(38, 0) comment 'Order lines: staged rows left out of the two sums',
    group_number number(38, 0) comment 'Group of the run that staged it',
    run_id varchar not null comment 'Run that last worked on the file',
    planned_at timestamp_ntz not null comment 'UTC',
    staged_at timestamp_ntz comment 'UTC',
    loaded_at timestamp_ntz comment 'UTC',
    constraint files_pk primary key (source_system, entity, file_key, etag)
)
comment = 'Grain: one row per version of a landed file';

create table if not exists ops.quarantine (
    source varchar not null comment 'Name of the source mapping',
    entity varchar not null comment 'RAW table the record was for, in lower case',
    source_file varchar not null comment 'Path relative to the landing folder',
    source_hash varchar not null comment 'SHA-256 of the file''s bytes',
    source_row number(38, 0) comment '1-based ordinal of the record; NULL when the whole file was refused',
    line_number_in_file number(38, 0) comment '1-based physical line',
    byte_offset number(38, 0) comment 'Offset of the record in the decompressed file, where known',
    raw_bytes binary comment 'The record as it came; NULL when the whole file was refused (its bytes are in the lake)',
    reason_code varchar not null comment 'Kind of reason',
    reason varchar not null comment 'What was found, what was expected',
    detected_at timestamp_ntz not null comment 'Start of the run that refused it, UTC'
)
comment = 'Grain: one row per refused record or refused file';

create table if not exists ops.source_conventions (
    source_system varchar not null comment 'Name of the source mapping',
    timezone varchar not null comment 'Of times written without an offset',
    default_currency varchar not null comment 'ISO 4217 code where a line names none',
    cancellation_prefix varchar comment 'Order ids that begin with it are cancellations',
    adjustment_prefix varchar comment 'Order ids that begin with it are accounting adjustments',
    non_product_pattern varchar comment 'Regular expression of codes that are no merchandise',
    float_formatted_ids boolean not null comment 'Whether ids come as numbers with a decimal part (17850.0)',
    mapping_hash varchar not null comment 'SHA-256 of the mapping file',
    whole_orders boolean comment 'Whether a file that has an order has all of it, so that the latest file counts alone',
    exchange_rates_from varchar comment 'Source whose exchange rates convert the amounts; NULL: its own',
    constraint source_conventions_pk primary key (source_system)
)
comment = 'Grain: one row per source mapping; what its own conventions mean';

alter table ops.source_conventions add column if not exists whole_orders boolean
comment 'Whether a file that has an order has all of it, so that the latest file counts alone';
alter table ops.source_conventions add column if not exists exchange_rates_from varchar
comment 'Source whose exchange rates convert the amounts; NULL: its own';

create table if not exists ops.transformed_files (
    model_name varchar not null comment 'dbt model that takes its increments by file',
    source_system varchar not null comment 'Name of the source mapping',
    content_hash varchar not null comment 'File, as in OPS.FILES; of fact_clicks the staged file, as in OPS.STREAM_BATCHES',
    state varchar not null comment 'claimed while a dbt run works on it, then done',
    invocation_id varchar not null comment 'dbt invocation that claimed it last',
    claimed_at timestamp_ntz not null comment 'UTC',
    done_at timestamp_ntz comment 'UTC',
    constraint transformed_files_pk primary key (model_name, source_system, content_hash)
)
comment = 'Grain: one row per model and loaded file or micro-batch; what incremental models have processed';

create table if not exists ops.holidays (
    country varchar not null comment 'ISO 3166 code',
    holiday_date date not null comment 'Day',
    holiday_name varchar not null comment 'Name of the public holiday',
    constraint holidays_pk primary key (country, holiday_date)
)
comment = 'Grain: one row per country and public holiday; from the holidays library';
