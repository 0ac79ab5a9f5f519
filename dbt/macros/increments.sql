{#- How the star takes its increments: by file or micro-batch, through OPS.TRANSFORMED_FILES. See dbt/README.md. -#}

{#- Whether everything is to be read again: asked for, or the working table is gone. -#}
{% macro is_rebuild() -%}
    {%- if not execute -%}{{ return(false) }}{%- endif -%}
    {%- if var('rebuild') | string | lower == 'true' -%}{{ return(true) }}{%- endif -%}
    {{ return(adapter.get_relation(target.database, 'INTERMEDIATE', 'INT_ORDER_LINES') is none) }}
{%- endmacro %}

{#- The same for clicks, as a condition: also where orders are read again, because dimensions are then filled anew. -#}
{% macro is_click_rebuild() -%}
    {%- if execute and adapter.get_relation(target.database, 'INTERMEDIATE', 'INT_CLICK_EVENTS') is none -%}
        true
    {%- else -%}
        ({{ var('rebuild') | string | lower == 'true' }}
        or (select count(*) from {{ ref('int_files_to_transform') }} where is_rebuild) > 0)
    {%- endif -%}
{%- endmacro %}

{#- Claims every loaded file that FACT_ORDERS does not hold yet: new ones, those that an earlier run claimed and did not
    finish, and contents that were delivered again after they were done (a file set back to what it was). -#}
{% macro claim_loaded_files() -%}
    merge into {{ source('ops', 'transformed_files') }} as target
    using (
        select
            source_system,
            content_hash,
            max(planned_at) as last_planned_at
        from {{ source('ops', 'files') }}
        where state in ('loaded', 'duplicate') and content_hash is not null
        group by source_system, content_hash
        having count_if(state = 'loaded') > 0
    ) as loaded
        on
            target.model_name = 'fact_orders'
            and target.source_system = loaded.source_system
            and target.content_hash = loaded.content_hash
    when matched and ({{ is_rebuild() }} or target.state <> 'done' or loaded.last_planned_at > target.done_at)
        then update set
            state = 'claimed',
            invocation_id = '{{ invocation_id }}',
            claimed_at = sysdate(),
            done_at = null
    when not matched then insert
        (model_name, source_system, content_hash, state, invocation_id, claimed_at)
        values ('fact_orders', loaded.source_system, loaded.content_hash, 'claimed', '{{ invocation_id }}', sysdate())
{%- endmacro %}

{#- Whether this run's layer reads all clicks again, for models after int_click_batches. -#}
{% macro is_running_rebuild() -%}
    (select count(*) > 0 from {{ ref('int_click_batches') }} where is_rebuild)
{%- endmacro %}

{#- Claims every loaded micro-batch that FACT_CLICKS does not hold yet. Its staged file stands for the content. -#}
{% macro claim_loaded_batches() -%}
    merge into {{ source('ops', 'transformed_files') }} as target
    using (
        select
            batches.source_system,
            batches.staged_key
        from {{ source('ops', 'stream_batches') }} as batches
        left join {{ source('ops', 'transformed_files') }} as transformed
            on
                transformed.model_name = 'fact_clicks'
                and batches.source_system = transformed.source_system
                and batches.staged_key = transformed.content_hash
        where
            batches.state = 'loaded'
            and ({{ is_click_rebuild() }} or transformed.content_hash is null or transformed.state <> 'done')
    ) as loaded
        on
            target.model_name = 'fact_clicks'
            and target.source_system = loaded.source_system
            and target.content_hash = loaded.staged_key
    when matched
        then update set
            state = 'claimed',
            invocation_id = '{{ invocation_id }}',
            claimed_at = sysdate(),
            done_at = null
    when not matched then insert
        (model_name, source_system, content_hash, state, invocation_id, claimed_at)
        values ('fact_clicks', loaded.source_system, loaded.staged_key, 'claimed', '{{ invocation_id }}', sysdate())
{%- endmacro %}

{#- Marks what this run claimed done: nothing before every table of the star and every mart holds it. -#}
{% macro finish_claims() -%}
    update {{ source('ops', 'transformed_files') }}
    set state = 'done', done_at = sysdate()
    from (
        select
            model_name as finished_model,
            source_system as finished_source,
            content_hash as finished_hash
        from {{ this }}
    ) as finished
    where
        model_name = finished.finished_model
        and state = 'claimed'
        and source_system = finished.finished_source
        and content_hash = finished.finished_hash
{%- endmacro %}

{#- Enters that the marts are as the gate says, for the lines that this run saw, as it saw them: one released meanwhile is
    left to the next run. -#}
{% macro finish_gate_changes() -%}
    update {{ source('quality', 'held_order_lines') }}
    set applied_at = sysdate()
    from (
        select
            order_line_key as changed_line,
            incident_id as changed_incident,
            quantity as changed_quantity,
            unit_price as changed_price,
            currency as changed_currency,
            released_at as changed_release
        from {{ ref('int_gate_changes') }}
    ) as changes
    where
        applied_at is null
        and order_line_key = changes.changed_line
        and incident_id = changes.changed_incident
        and quantity = changes.changed_quantity
        and unit_price = changes.changed_price
        and currency = changes.changed_currency
        and equal_null(released_at, changes.changed_release)
{%- endmacro %}

{#- A table of the star as the last run left it, for models that it is built from itself: a ref would be a circle. -#}
{% macro mart_as_it_is(name) -%}
    {%- if not execute -%}{{ return('marts.' ~ name) }}{%- endif -%}
    {%- set found = adapter.get_relation(target.database, 'MARTS', name | upper) -%}
    {%- if found is none -%}
        {%- do exceptions.raise_compiler_error(
            'Table MARTS.' ~ name | upper ~ ' does not exist. warehouse/ddl declares it: run `customer-analytics migrate` first.'
        ) -%}
    {%- endif -%}
    {{ return(found) }}
{%- endmacro %}
