-- Where records are, from landed file to star. Grain: one row per entity of the source; the _of_run columns count what
-- came in the files of the run, the others everything the source ever delivered. Duplicates of files are in neither.
-- Bound: 1. run, 2. source.
with
chosen as (
    select
        cast(? as varchar) as run_id,
        cast(? as varchar) as source_system
),

files as (
    select
        files.entity,
        files.state,
        files.file_key,
        files.content_hash,
        coalesce(files.rows_in, 0) as rows_in,
        coalesce(files.rows_staged, 0) as rows_staged,
        coalesce(files.rows_quarantined, 0) as rows_quarantined,
        files.run_id = chosen.run_id as is_of_run
    from ops.files as files
    inner join chosen on files.source_system = chosen.source_system
    where files.state in ('staged', 'loaded', 'empty', 'refused')
),

ledger as (
    select
        entity,
        sum(rows_in) as rows_in,
        sum(rows_quarantined) as rows_quarantined,
        sum(rows_staged) as rows_staged,
        sum(iff(is_of_run, rows_in, 0)) as rows_in_of_run,
        sum(iff(is_of_run, rows_quarantined, 0)) as rows_quarantined_of_run,
        sum(iff(is_of_run, rows_staged, 0)) as rows_staged_of_run
    from files
    group by entity
),

raw_files as (
    select
        'order_lines' as entity,
        _source_hash as content_hash,
        count(*) as raw_rows
    from raw.order_lines
    inner join chosen on raw.order_lines._source_system = chosen.source_system
    group by _source_hash
    union all
    select
        'customers',
        _source_hash,
        count(*)
    from raw.customers
    inner join chosen on raw.customers._source_system = chosen.source_system
    group by _source_hash
    union all
    select
        'customer_merges',
        _source_hash,
        count(*)
    from raw.customer_merges
    inner join chosen on raw.customer_merges._source_system = chosen.source_system
    group by _source_hash
    union all
    select
        'products',
        _source_hash,
        count(*)
    from raw.products
    inner join chosen on raw.products._source_system = chosen.source_system
    group by _source_hash
    union all
    select
        'fx_rates',
        _source_hash,
        count(*)
    from raw.fx_rates
    inner join chosen on raw.fx_rates._source_system = chosen.source_system
    group by _source_hash
),

hashes_of_run as (
    select distinct
        entity,
        content_hash
    from files
    where
        is_of_run
        and state = 'loaded'
),

raw_rows as (
    select
        raw_files.entity,
        sum(raw_files.raw_rows) as raw_rows,
        sum(iff(hashes_of_run.content_hash is null, 0, raw_files.raw_rows)) as raw_rows_of_run
    from raw_files
    left join hashes_of_run
        on
            raw_files.entity = hashes_of_run.entity
            and raw_files.content_hash = hashes_of_run.content_hash
    group by raw_files.entity
),

order_files_of_run as (
    select distinct file_key
    from files
    where
        is_of_run
        and state = 'loaded'
        and entity = 'order_lines'
),

fact_files as (
    select
        facts.source_file,
        count(*) as fact_rows
    from marts.fact_orders as facts
    inner join chosen on facts.source_system = chosen.source_system
    group by facts.source_file
),

fact_rows as (
    select
        'order_lines' as entity,
        coalesce(sum(fact_files.fact_rows), 0) as fact_rows,
        coalesce(sum(iff(order_files_of_run.file_key is null, 0, fact_files.fact_rows)), 0) as fact_rows_of_run
    from fact_files
    left join order_files_of_run on fact_files.source_file = order_files_of_run.file_key
)

select
    coalesce(ledger.entity, raw_rows.entity) as entity,
    coalesce(ledger.rows_in, 0) as rows_in,
    coalesce(ledger.rows_quarantined, 0) as rows_quarantined,
    coalesce(ledger.rows_staged, 0) as rows_staged,
    coalesce(raw_rows.raw_rows, 0) as raw_rows,
    fact_rows.fact_rows,
    coalesce(ledger.rows_in_of_run, 0) as rows_in_of_run,
    coalesce(ledger.rows_quarantined_of_run, 0) as rows_quarantined_of_run,
    coalesce(ledger.rows_staged_of_run, 0) as rows_staged_of_run,
    coalesce(raw_rows.raw_rows_of_run, 0) as raw_rows_of_run,
    fact_rows.fact_rows_of_run
from ledger
full outer join raw_rows on ledger.entity = raw_rows.entity
left join fact_rows on coalesce(ledger.entity, raw_rows.entity) = fact_rows.entity
order by
    iff(coalesce(ledger.entity, raw_rows.entity) = 'order_lines', 0, 1),
    coalesce(ledger.entity, raw_rows.entity)
