-- Business dates of a source that hold order lines: how many, and how many of them no detector has seen.
-- Bound: 1. source.
select
    dates.date_day,
    count(*) as order_lines,
    count_if(scored.content_hash is null) as new_lines
from marts.fact_orders as facts
inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
left join ops.files as files
    on
        facts.source_system = files.source_system
        and facts.source_file = files.file_key
        and files.entity = 'order_lines'
        and files.state = 'loaded'
left join quality.scored_files as scored
    on
        files.source_system = scored.source_system
        and files.content_hash = scored.content_hash
where facts.source_system = ?
group by dates.date_day
order by dates.date_day
