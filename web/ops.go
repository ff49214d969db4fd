package web

import (
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func (s *Server) routeOps(r *mux.Router) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(s), newCMCDCollector(s),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})

	r.Path("/healthz").HandlerFunc(s.onlyGet(s.serveHealth))
	r.Path("/readyz").HandlerFunc(s.onlyGet(s.serveReady))
	r.Path("/metrics").HandlerFunc(s.onlyGet(func(w *response, r *http.Request) { metrics.ServeHTTP(w, r) }))
}

func (s *Server) onlyGet(h func(*response, *http.Request)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		w := rw.(*response)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.fail(w, r, errMethod)
			return
		}
		h(w, r)
	}
}

// serveHealth says that the process answers.
func (s *Server) serveHealth(w *response, r *http.Request) {
	w.say(r, http.StatusOK, cacheNever, "ok\n")
}

// serveReady says whether the origin should be sent traffic.
func (s *Server) serveReady(w *response, r *http.Request) {
	if s.draining.Load() {
		s.fail(w, r, errDraining)
		return
	}
	if s.Ready != nil {
		if err := s.Ready(); err != nil {
			w.add("Retry-After", retrySoon)
			w.say(r, http.StatusServiceUnavailable, cacheNever, "not ready: "+err.Error()+"\n")
			return
		}
	}
	text := "ready\n"
	if s.Warning != nil {
		if warning := s.Warning(); warning != "" {
			text += "warning: " + warning + "\n"
		}
	}
	w.say(r, http.StatusOK, cacheNever, text)
}
