{#- The customers or products that an increment may change, and from when on.
    staging: model of the change feed, with attributes_hash; id: its identifier; entity: name in OPS.FILES.
    changed_from is NULL for a member that is only named by new order lines or clicks: it may have to be inferred, but no fact that
    is already there changes. A row that repeats what was known to hold at its time changes nothing either, so that a
    feed which sends every product every day costs what changed. -#}
{% macro touched_members(staging, id, entity) %}
with files as (
    select
        source_system,
        content_hash,
        entity
    from {{ ref('int_files_to_transform') }}
),

file_contents as (
    select
        source_system,
        content_hash,
        is_current,
        modified_at
    from {{ ref('int_file_contents') }}
    where entity = '{{ entity }}'
),

feed as (
    select
        staging._source_system as source_system,
        staging.{{ id }},
        staging.effective_at,
        staging.attributes_hash,
        staging._source_file,
        staging._source_row,
        file_contents.modified_at as file_modified_at,
        file_contents.is_current,
        files.content_hash is not null as is_affected
    from {{ ref(staging) }} as staging
    inner join file_contents
        on
            staging._source_system = file_contents.source_system
            and staging._source_hash = file_contents.content_hash
    left join files
        on
            files.entity = '{{ entity }}'
            and staging._source_system = files.source_system
            and staging._source_hash = files.content_hash
    where staging.reject_reason is null
),

-- What held before, as far as no file of this increment has a say in it.
known as (
    select
        source_system,
        {{ id }},
        effective_at,
        attributes_hash
    from feed
    where is_current and not is_affected
    qualify row_number() over (
        partition by source_system, {{ id }}, effective_at
        order by file_modified_at desc nulls last, _source_file desc, _source_row desc
    ) = 1
),

changed as (
    select
        feed.source_system,
        feed.{{ id }},
        min(feed.effective_at) as changed_from
    from feed
    left join known
        on
            feed.source_system = known.source_system
            and feed.{{ id }} = known.{{ id }}
            and feed.effective_at = known.effective_at
            and feed.attributes_hash = known.attributes_hash
    where feed.is_affected and known.{{ id }} is null
    group by feed.source_system, feed.{{ id }}
),

ordered as (
    select distinct
        lines.source_system,
        lines.{{ id }}
    from {{ ref('int_order_lines') }} as lines
    inner join files
        on
            files.entity = 'order_lines'
            and lines.source_system = files.source_system
            and lines._source_hash = files.content_hash
    where lines.{{ id }} is not null and lines.is_readable
),

clicked as (
    select distinct
        events.source_system,
        events.{{ id }}
    from {{ ref('int_click_events') }} as events
    inner join {{ ref('int_click_batches') }} as batches
        on
            events.load_number = batches.load_number
            and events.source_system = batches.source_system
            and events._source_file = batches.content_hash
    where events.{{ id }} is not null and events.reject_reason is null
),

named as (
    select
        source_system,
        {{ id }}
    from ordered
    union
    select
        source_system,
        {{ id }}
    from clicked
)

select
    coalesce(changed.source_system, named.source_system) as source_system,
    coalesce(changed.{{ id }}, named.{{ id }}) as {{ id }},
    changed.changed_from
from changed
full outer join named
    on
        changed.source_system = named.source_system
        and changed.{{ id }} = named.{{ id }}
{% endmacro %}

{#- Versions of the touched members: the feed's rows at which an attribute changes, the first of them from the beginning
    of time. Of two rows for one instant the one whose file was changed last counts, then the later file by name, then the later
    record.
    Ends with a CTE `versions` (source_system, <id>, <attributes>, valid_from, valid_to). -#}
{% macro member_versions(staging, id, entity, touched, attributes) %}
touched as (
    select
        source_system,
        {{ id }}
    from {{ ref(touched) }}
),

file_contents as (
    select
        source_system,
        content_hash,
        modified_at
    from {{ ref('int_file_contents') }}
    where entity = '{{ entity }}' and is_current
),

states as (
    select staging.*
    from {{ ref(staging) }} as staging
    inner join file_contents
        on
            staging._source_system = file_contents.source_system
            and staging._source_hash = file_contents.content_hash
    inner join touched
        on
            staging._source_system = touched.source_system
            and staging.{{ id }} = touched.{{ id }}
    where staging.reject_reason is null
    qualify row_number() over (
        partition by staging._source_system, staging.{{ id }}, staging.effective_at
        order by file_contents.modified_at desc nulls last, staging._source_file desc, staging._source_row desc
    ) = 1
),

compared as (
    select
        *,
        lag(attributes_hash) over (partition by _source_system, {{ id }} order by effective_at) as previous_hash
    from states
),

changes as (
    select
        *,
        iff(previous_hash is null, {{ beginning_of_time() }}, effective_at) as valid_from
    from compared
    where previous_hash is null or previous_hash <> attributes_hash
),

versions as (
    select
        _source_system as source_system,
        {{ id }},
        {% for attribute in attributes %}{{ attribute }},
        {% endfor %}valid_from,
        lead(valid_from) over (partition by _source_system, {{ id }} order by valid_from) as valid_to
    from changes
)
{% endmacro %}
