-- Every order line of a transformed file is one fact or one reject, by source and by file.
with transformed as (
    select
        source_system,
        content_hash
    from {{ source('ops', 'transformed_files') }}
    where model_name = 'fact_orders' and state = 'done'
),

raw_lines as (
    select
        lines._source_system as source_system,
        lines._source_file as source_file,
        count(*) as raw_rows
    from {{ source('raw', 'order_lines') }} as lines
    inner join transformed
        on
            lines._source_system = transformed.source_system
            and lines._source_hash = transformed.content_hash
    group by lines._source_system, lines._source_file
),

facts as (
    select
        source_system,
        source_file,
        count(*) as fact_rows
    from {{ ref('fact_orders') }}
    group by source_system, source_file
),

rejects as (
    select
        _source_system as source_system,
        _source_file as source_file,
        count(*) as reject_rows
    from {{ ref('order_line_rejects') }}
    group by _source_system, _source_file
)

select
    coalesce(raw_lines.source_system, facts.source_system, rejects.source_system) as source_system,
    coalesce(raw_lines.source_file, facts.source_file, rejects.source_file) as source_file,
    raw_lines.raw_rows,
    facts.fact_rows,
    rejects.reject_rows
from raw_lines
full outer join facts
    on
        raw_lines.source_system = facts.source_system
        and raw_lines.source_file = facts.source_file
full outer join rejects
    on
        coalesce(raw_lines.source_system, facts.source_system) = rejects.source_system
        and coalesce(raw_lines.source_file, facts.source_file) = rejects.source_file
where coalesce(raw_lines.raw_rows, 0) <> coalesce(facts.fact_rows, 0) + coalesce(rejects.reject_rows, 0)
