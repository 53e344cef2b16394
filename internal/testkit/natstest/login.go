package natstest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Users demands user and password, each user with permissions in the
// server's own spelling; "" permits everything.
func Users(permissions map[string]string) string {
	text := "authorization { users: [\n"
	for user, permission := range permissions {
		if permission != "" {
			permission = ", permissions: " + permission
		}
		text += fmt.Sprintf("{ user: %q, password: %q%s }\n", user, Password(user), permission)
	}
	return text + "] }"
}

// Password is the password of a user made by Users.
func Password(user string) string { return "secret-of-" + user }

// Token demands a token.
func Token(token string) string { return fmt.Sprintf("authorization { token: %q }", token) }

// NKey demands an nkey and returns the user's seed.
func NKey(t testing.TB) (login, seed string) {
	t.Helper()
	public, seed := keyPair(t, nkeys.CreateUser)
	return fmt.Sprintf("authorization { users: [ { nkey: %s } ] }", public), seed
}

// Operator demands a user's JWT and returns the path of a credentials file,
// and of another whose user belongs to an unknown account.
func Operator(t testing.TB) (login, credentials, strangers string) {
	t.Helper()
	operator, operatorSeed := keyPair(t, nkeys.CreateOperator)
	account, accountSeed := keyPair(t, nkeys.CreateAccount)
	system, _ := keyPair(t, nkeys.CreateAccount)
	_, strangerSeed := keyPair(t, nkeys.CreateAccount)

	operatorClaims := jwt.NewOperatorClaims(operator)
	operatorClaims.SystemAccount = system
	accountClaims := jwt.NewAccountClaims(account)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}

	dir := t.TempDir()
	login = fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}",
		encode(t, operatorClaims, operatorSeed), system,
		account, encode(t, accountClaims, operatorSeed),
		system, encode(t, jwt.NewAccountClaims(system), operatorSeed))
	return login, userFile(t, filepath.Join(dir, "user.creds"), accountSeed), userFile(t, filepath.Join(dir, "stranger.creds"), strangerSeed)
}

func userFile(t testing.TB, path, accountSeed string) string {
	t.Helper()
	user, seed := keyPair(t, nkeys.CreateUser)
	text, err := jwt.FormatUserConfig(encode(t, jwt.NewUserClaims(user), accountSeed), []byte(seed))
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatalf("write a credentials file: %v", err)
	}
	return path
}

func encode(t testing.TB, claims jwt.Claims, seed string) string {
	t.Helper()
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatalf("read a seed: %v", err)
	}
	token, err := claims.Encode(pair)
	if err != nil {
		t.Fatalf("sign a JWT: %v", err)
	}
	return token
}

func keyPair(t testing.TB, create func() (nkeys.KeyPair, error)) (public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatalf("make a key pair: %v", err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatalf("take the public key: %v", err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatalf("take the seed: %v", err)
	}
	return public, string(secret)
}
