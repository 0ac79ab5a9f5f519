{#- Models land in exactly the schema that their configuration names; warehouse/ddl owns the schemas. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
