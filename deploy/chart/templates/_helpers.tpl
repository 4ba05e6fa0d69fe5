{{- define "ringway.name" -}}
{{- if eq .Release.Name .Chart.Name }}{{ .Chart.Name }}{{ else }}{{ printf "%s-%s" .Chart.Name .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ringway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ringway.labels" -}}
{{ include "ringway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Who Ringway is to the API server. These objects alone are enough for a Ringway on a host. */}}
{{- define "ringway.accessLabels" -}}
{{ include "ringway.labels" . }}
app.kubernetes.io/component: access
{{- end }}

{{- /* ADDRESS:PORT or off of config.admin.metrics. */}}
{{- define "ringway.metrics" -}}
{{- $said := dig "admin" "metrics" "" .Values.config -}}
{{- if $said }}{{ $said }}{{ else if .Values.serviceMonitor.enabled }}0.0.0.0:9098{{ else }}127.0.0.1:9098{{ end }}
{{- end }}

{{- define "ringway.port" -}}{{ splitList ":" . | last }}{{- end }}
{{- define "ringway.host" -}}{{ regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" }}{{- end }}

{{- /* The configuration file. */}}
{{- define "ringway.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $metrics := include "ringway.metrics" . -}}
{{- $healthz := $config.admin.healthz -}}
{{- if .Values.serviceMonitor.enabled }}
{{- if or (eq $metrics "off") (hasPrefix "127." $metrics) (hasPrefix "[::1]" $metrics) }}
{{- fail (printf "config.admin.metrics is %s, where Prometheus cannot ask; with serviceMonitor.enabled set it to 0.0.0.0:9098, or leave it out" $metrics) }}
{{- end }}
{{- $_ := set $config.admin "metrics" $metrics }}
{{- end }}
{{- if eq (include "ringway.port" $metrics) (include "ringway.port" $healthz) }}
{{- fail (printf "config.admin.metrics and config.admin.healthz cannot both have port %s; set another one" (include "ringway.port" $healthz)) }}
{{- end }}
{{- with dig "snat" "ports" "" $config }}
{{- range splitList "," (toString .) }}
{{- $ends := splitList "-" (trim .) }}
{{- if gt (int (first $ends)) (int (last $ends)) }}
{{- fail (printf "config.snat.ports has %s, whose end is before its beginning; write FIRST-LAST" (trim .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* What a probe asks: the kubelet is in the node's network as well. */}}
{{- define "ringway.probe" -}}
{{- $host := include "ringway.host" .Values.config.admin.healthz -}}
port: {{ include "ringway.port" .Values.config.admin.healthz }}
{{- if not (has $host (list "0.0.0.0" "::")) }}
host: {{ $host | quote }}
{{- end }}
{{- end }}
