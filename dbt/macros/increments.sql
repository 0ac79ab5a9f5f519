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

{#- Incremental strategy `replace_touched`: in one transaction, deletes what this increment touches and inserts the
    model's rows. Model configuration:
      unique_key     columns that a touched thing is known by (an order, a customer), never NULL
      touched        name of the model that lists the touched keys, which the model's SQL must ref; left out: the keys
                     of the new rows
      replaces_all   true: the model yields its whole table every time
      finishes_files true: marks the claimed files done in the same transaction -#}
{% macro get_incremental_replace_touched_sql(arg_dict) -%}
    {%- set target_relation = arg_dict['target_relation'] -%}
    {%- set new_rows = arg_dict['temp_relation'] -%}
    {%- set keys = arg_dict['unique_key'] -%}
    {%- set options = config.get('meta') or {} -%}
    {%- set columns = arg_dict['dest_columns'] | map(attribute='quoted') | join(', ') -%}
    {%- set files = adapter.get_relation(target.database, 'INTERMEDIATE', 'INT_FILES_TO_TRANSFORM') -%}
    begin;
    {% if options.get('replaces_all') %}
    delete from {{ target_relation }};
    {% else %}
    delete from {{ target_relation }} where (select count(*) from {{ files }} where is_rebuild) > 0;
    delete from {{ target_relation }} as target
    using (
        select distinct {{ keys | join(', ') }}
        from {{ ref(options.get('touched')) if options.get('touched') else new_rows }}
    ) as touched
    where {% for key in keys %}target.{{ key }} = touched.{{ key }}{{ ' and ' if not loop.last }}{% endfor %};
    {% endif %}
    insert into {{ target_relation }} ({{ columns }})
    select {{ columns }} from {{ new_rows }};
    {% if options.get('finishes_files') %}
    update {{ source('ops', 'transformed_files') }} as target
    set state = 'done', done_at = sysdate()
    from {{ files }} as files
    where
        target.model_name = 'fact_orders'
        and target.state = 'claimed'
        and target.source_system = files.source_system
        and target.content_hash = files.content_hash;
    {% endif %}
    commit;
{%- endmacro %}
