-- Every record of a transformed micro-batch is a click, a further record of one, or a reject; by source.
with transformed as (
    select
        source_system,
        content_hash
    from {{ source('ops', 'transformed_files') }}
    where model_name = 'fact_clicks' and state = 'done'
),

raw_records as (
    select
        events._source_system as source_system,
        count(*) as raw_rows
    from {{ source('raw', 'click_events') }} as events
    inner join transformed
        on
            events._source_system = transformed.source_system
            and events._source_file = transformed.content_hash
    group by events._source_system
),

clicks as (
    select
        source_system,
        count(*) as click_rows,
        sum(duplicate_count) as duplicate_rows
    from {{ ref('fact_clicks') }}
    group by source_system
),

rejects as (
    select
        _source_system as source_system,
        count(*) as reject_rows
    from {{ ref('click_event_rejects') }}
    group by _source_system
)

select
    coalesce(raw_records.source_system, clicks.source_system, rejects.source_system) as source_system,
    raw_records.raw_rows,
    clicks.click_rows,
    clicks.duplicate_rows,
    rejects.reject_rows
from raw_records
full outer join clicks on raw_records.source_system = clicks.source_system
full outer join rejects on coalesce(raw_records.source_system, clicks.source_system) = rejects.source_system
where
    coalesce(raw_records.raw_rows, 0)
    <> coalesce(clicks.click_rows, 0) + coalesce(clicks.duplicate_rows, 0) + coalesce(rejects.reject_rows, 0)
