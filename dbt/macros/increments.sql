{#- How the star takes its increments: by file, through OPS.TRANSFORMED_FILES. See dbt/README.md. -#}

{#- Whether everything is to be read again: asked for, or the working table is gone. -#}
{% macro is_rebuild() -%}
    {%- if not execute -%}{{ return(false) }}{%- endif -%}
    {%- if var('rebuild') | string | lower == 'true' -%}{{ return(true) }}{%- endif -%}
    {{ return(adapter.get_relation(target.database, 'INTERMEDIATE', 'INT_ORDER_LINES') is none) }}
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
