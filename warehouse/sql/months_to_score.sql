-- Months that hold order lines no detector has seen. Bound: 1. source.
select
    date_trunc('month', facts.ordered_at)::timestamp_ntz as month_start,
    dateadd('month', 1, date_trunc('month', facts.ordered_at))::timestamp_ntz as month_end,
    count(*) as order_lines
from marts.fact_orders as facts
inner join ops.files as files
    on
        facts.source_system = files.source_system
        and facts.source_file = files.file_key
        and files.entity = 'order_lines'
        and files.state = 'loaded'
left join quality.scored_files as scored
    on
        files.source_system = scored.source_system
        and files.content_hash = scored.content_hash
where
    facts.source_system = ?
    and scored.content_hash is null
group by 1, 2
order by 1
