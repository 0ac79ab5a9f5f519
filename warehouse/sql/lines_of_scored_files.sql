-- Order lines that are being scored, by file. Bound: 1. source.
select
    facts.source_file,
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
    and facts.is_merchandise
    and scored.content_hash is null
group by facts.source_file
