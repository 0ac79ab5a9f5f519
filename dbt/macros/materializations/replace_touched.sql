{#- Materialization of tables that grow: one transaction deletes what the increment touches and inserts the model's rows.
    It never replaces a table, for warehouse/ddl owns those of the star. Why it is not `incremental`: dbt/README.md.
    In the model's config.meta:
      keys           columns that a touched thing is known by (an order, a customer); never NULL
      touched        model that lists the touched keys, which the model's SQL must ref; left out: the keys of its rows
      replaces_all   true: the model yields its whole table every time
      claims         table of the intermediate layer that lists what is claimed; left out: int_files_to_transform
      is_working     true: not declared by warehouse/ddl, so created by the first run; its SQL may read the table itself -#}
{% materialization replace_touched, adapter='snowflake' %}
    {%- set options = config.get('meta') -%}
    {%- set existing = load_relation(this) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set original_query_tag = set_query_tag() -%}
    {{ run_hooks(pre_hooks) }}

    {% if existing is none %}
        {% if not options.get('is_working') %}
            {% do exceptions.raise_compiler_error(
                'Table ' ~ this ~ ' does not exist. warehouse/ddl declares it: run `customer-analytics migrate` first.'
            ) %}
        {% endif %}
        {% call statement('main') -%}
            {{ create_table_as(false, target_relation, sql) }}
        {%- endcall %}
    {% else %}
        {% if config.get('contract').enforced %}
            {{ get_assert_columns_equivalent(sql) }}
        {% endif %}
        {%- set columns = adapter.get_columns_in_relation(existing) | map(attribute='quoted') | join(', ') -%}
        {% if options.get('is_working') %}
            {%- set new_rows = make_temp_relation(this).incorporate(type='table') -%}
            {% call statement('new_rows') -%}
                {{ create_table_as(true, new_rows, sql) }}
            {%- endcall %}
            {% call statement('main') -%}
                {{ replace_touched_sql(target_relation, columns, 'select * from ' ~ new_rows, options) }}
            {%- endcall %}
            {% do adapter.drop_relation(new_rows) %}
        {% else %}
            {% call statement('main') -%}
                {{ replace_touched_sql(target_relation, columns, sql, options) }}
            {%- endcall %}
        {% endif %}
    {% endif %}

    {{ run_hooks(post_hooks) }}
    {% do unset_query_tag(original_query_tag) %}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- Begins with a rollback: what a model that failed on this connection left open must never be committed by another. -#}
{% macro replace_touched_sql(target_relation, columns, rows_sql, options) -%}
    {%- set files = api.Relation.create(database=this.database, schema='INTERMEDIATE', identifier=options.get('claims', 'int_files_to_transform') | upper) -%}
    rollback;
    begin;
    {% if options.get('replaces_all') %}
    delete from {{ target_relation }};
    {% else %}
    delete from {{ target_relation }} where (select count(*) from {{ files }} where is_rebuild) > 0;
    delete from {{ target_relation }}
    using (
        select distinct {% for key in options['keys'] %}{{ key }} as touched_{{ key }}{{ ', ' if not loop.last }}{% endfor %}

        from {% if options.get('touched') %}{{ ref(options['touched']) }}{% else %}({{ rows_sql }}){% endif %}
    ) as touched
    where {% for key in options['keys'] %}{{ key }} = touched.touched_{{ key }}{{ ' and ' if not loop.last }}{% endfor %};
    {% endif %}
    insert into {{ target_relation }} ({{ columns }})
    select {{ columns }} from (
    {{ rows_sql }}
    );
    commit;
{%- endmacro %}

{#- Whether a working table is there already, so that its model can read what it holds. -#}
{% macro has_rows_to_keep() -%}
    {{ return(execute and load_relation(this) is not none) }}
{%- endmacro %}
