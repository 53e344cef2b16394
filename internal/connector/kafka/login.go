package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	tokenTimeout  = 5 * time.Second
	maxTokenBytes = 1 << 20
)

// login is how one proves who one is by SASL.
type login struct {
	mechanism  string
	username   string
	password   string
	token      string
	tokenFile  string
	tokenURL   string
	clientID   string
	secret     string
	scope      string
	withoutTLS bool
}

func readLogin(values Values) login {
	return login{
		mechanism:  values.String("sasl_mechanism"),
		username:   values.String("sasl_username"),
		password:   values.String("sasl_password"),
		token:      values.String("sasl_token"),
		tokenFile:  values.String("sasl_token_file"),
		tokenURL:   values.String("sasl_oauth_url"),
		clientID:   values.String("sasl_client_id"),
		secret:     values.String("sasl_client_secret"),
		scope:      values.String("sasl_scope"),
		withoutTLS: values.Bool("sasl_without_tls"),
	}
}

func (l *login) check(tls bool) error {
	switch l.mechanism {
	case "":
		if l.username != "" || l.password != "" || l.token != "" || l.tokenFile != "" || l.tokenURL != "" {
			return misconfigured("a sasl_ key is given without sasl_mechanism; add it: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
		}
		return nil
	case "OAUTHBEARER":
		if err := l.checkToken(); err != nil {
			return err
		}
	default:
		if l.username == "" || l.password == "" {
			return misconfigured("sasl_mechanism %s needs sasl_username and sasl_password", l.mechanism)
		}
	}
	if !tls && !l.withoutTLS && !strings.HasPrefix(l.mechanism, "SCRAM-") {
		return misconfigured("sasl_mechanism %s without TLS shows the password or token to the network; add \"tls\": true, or \"sasl_without_tls\": true if the network is trusted", l.mechanism)
	}
	return nil
}

func (l *login) checkToken() error {
	given := 0
	for _, way := range []string{l.token, l.tokenFile, l.tokenURL} {
		if way != "" {
			given++
		}
	}
	if given != 1 {
		return misconfigured("sasl_mechanism OAUTHBEARER needs one of sasl_token, sasl_token_file and sasl_oauth_url")
	}
	if l.tokenURL == "" {
		return nil
	}
	at, err := url.Parse(l.tokenURL)
	if err != nil || at.Host == "" || at.User != nil || (at.Scheme != "https" && at.Scheme != "http") {
		return misconfigured("sasl_oauth_url is not an address like https://login.example/oauth2/token, without user and password in it")
	}
	if at.Scheme == "http" && !l.withoutTLS {
		return misconfigured("sasl_oauth_url begins with http:// and would show the client's secret to the network; use https://, or \"sasl_without_tls\": true if the network is trusted")
	}
	if l.clientID == "" || l.secret == "" {
		return misconfigured("sasl_oauth_url needs sasl_client_id and sasl_client_secret")
	}
	return nil
}

// client is the client's side of the login; nil when there is none.
func (l *login) client() sasl.Mechanism {
	switch l.mechanism {
	case "PLAIN":
		return plain.Auth{User: l.username, Pass: l.password}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: l.username, Pass: l.password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: l.username, Pass: l.password}.AsSha512Mechanism()
	case "OAUTHBEARER":
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := l.currentToken(ctx)
			return oauth.Auth{Token: token}, err
		})
	}
	return nil
}

// currentToken is asked for at each login, so that a token may be renewed.
func (l *login) currentToken(ctx context.Context) (string, error) {
	switch {
	case l.tokenFile != "":
		text, err := os.ReadFile(l.tokenFile)
		if err != nil {
			return "", unreadable("sasl_token_file", l.tokenFile, err)
		}
		if token := strings.TrimSpace(string(text)); token != "" {
			return token, nil
		}
		return "", misconfigured("sasl_token_file %q is empty", l.tokenFile)
	case l.tokenURL != "":
		return l.fetchToken(ctx)
	}
	return l.token, nil
}

// fetchToken asks the endpoint by the client credentials grant. Its answer is
// left out of errors: it may quote the token.
func (l *login) fetchToken(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	form := url.Values{"grant_type": {"client_credentials"}}
	if l.scope != "" {
		form.Set("scope", l.scope)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("ask sasl_oauth_url for a token: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(l.clientID), url.QueryEscape(l.secret))
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask sasl_oauth_url for a token: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // nothing more is read
	body, err := io.ReadAll(io.LimitReader(response.Body, maxTokenBytes))
	if err != nil {
		return "", fmt.Errorf("read the answer of sasl_oauth_url: %w", err)
	}
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusBadRequest {
		return "", misconfigured("sasl_oauth_url refuses the client (%s); check sasl_client_id, sasl_client_secret and sasl_scope", response.Status)
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || response.StatusCode != http.StatusOK || answer.Token == "" {
		return "", fmt.Errorf("sasl_oauth_url answered %s and gave no access_token", response.Status)
	}
	return answer.Token, nil
}
